"""The OpenAPI 3.1 document of the query side, and the page that shows it. New paths are added in `document.py`."""
