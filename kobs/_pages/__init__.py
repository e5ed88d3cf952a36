"""HTML pages that stand alone: one file each, no framework, nothing from the network.

`document` makes a page of its parts, `trace` lays out events for the page of a trace. Style and
scripts are the `.css` and `.js` files beside them, which are written into each page.
"""
