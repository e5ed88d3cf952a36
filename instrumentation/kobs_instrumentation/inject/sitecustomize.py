"""The start-up hook: the first thing that `site` imports in a process that `kobs run` watches.

It takes itself out of sight, starts the recording, and then stands aside for the program's own
`sitecustomize`. Written for any Python (2.7 too): an old one is listed as unobserved.
Nothing that goes wrong here may reach the program.
"""

# mypy: ignore-errors
# ruff: noqa: B905, C402, UP031, UP036

import sys


def _start():
    import os

    given = {}
    try:
        here = os.path.dirname(os.path.abspath(__file__))
        import kobs_hide

        del sys.modules["kobs_hide"]
        # Only the mapping, not the C environment: children inherit from that one by themselves.
        mapping = getattr(os.environ, "_data", None)
        if mapping is None:
            given = kobs_hide.hide(os.environ.data)
        else:
            raw = kobs_hide.hide(mapping, os.fsencode)
            given = dict((name, os.fsdecode(value)) for name, value in raw.items())
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
        sys.path_importer_cache.pop(here, None)
        if not given.get("KOBS_SESSION"):
            return
        if sys.version_info < (3, 11):
            version = "%d.%d" % sys.version_info[:2]
            _unobserved(os, given, "Python " + version + ": kobs needs 3.11 or later")
            return
        cached = set(sys.path_importer_cache)
        import gc

        collects = gc.isenabled()
        gc.disable()  # nothing that is made here is garbage
        try:
            _import_kobs(os, given)
            from kobs_instrumentation.inject import bootstrap

            bootstrap.start(given)
        finally:
            # What is there now stays: neither the program's collections nor its end go through it.
            gc.freeze()
            if collects:
                gc.enable()
        for entry in set(sys.path_importer_cache) - cached:
            del sys.path_importer_cache[entry]
    except Exception as error:
        try:
            text = "kobs could not start: %s: %s" % (type(error).__name__, error)
            _unobserved(os, given, text)
        except Exception:
            pass


def _import_kobs(os, given):
    """Have `kobs` importable: as it is, else from where `kobs run` has it, without a path that
    stays (a package in `sys.modules` finds its parts by itself)."""
    homes = given.get("KOBS_HOME", "").split(os.pathsep)
    for name, home in zip(("kobs", "kobs_instrumentation"), homes):
        try:
            module = __import__(name)
            if getattr(module, "__file__", None):
                continue
            del sys.modules[name]
        except ImportError:
            pass
        import importlib.util

        folder = os.path.join(home, name)
        spec = importlib.util.spec_from_file_location(
            name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise


def _unobserved(os, given, reason):
    import json

    argv = getattr(sys, "orig_argv", None) or getattr(sys, "argv", None) or [sys.executable]
    line = json.dumps({"pid": os.getpid(), "argv": list(argv), "reason": reason}) + "\n"
    path = os.path.join(given["KOBS_SESSION"], "unobserved.jsonl")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode("utf-8"))
    finally:
        os.close(descriptor)


_start()

# Where the program has a `sitecustomize` of its own, that is the one in `sys.modules`; where it
# has none, this import fails just as it would without kobs, and `site` takes that in its stride.
_this = sys.modules.pop("sitecustomize")
import sitecustomize  # noqa: E402, F401
