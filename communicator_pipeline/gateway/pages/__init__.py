"""The review inbox in the browser: pages that the server renders, and their parts."""
