// What the failure says of an event leads to it; and the event to begin with.
{
  const byNumber = new Map(columns.number.map((number, i) => [number, i]));
  const live = document.getElementById("live");
  for (const link of document.querySelectorAll("a[data-number]")) {
    const i = byNumber.get(Number(link.getAttribute("data-number")));
    if (i === undefined) link.replaceWith(link.textContent); // not on this page
    else link.addEventListener("click", () => select(i, "failure"));
  }
  listeners.push((i, from) => {
    if (from) live.textContent = `selected ${numberOf(i)} ${typeOf(i)} ${nameOf(i)}`;
  });
  select(firstToShow());
}
