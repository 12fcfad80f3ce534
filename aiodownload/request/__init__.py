"""How to ask: decisions about requests.  No files, no clock, no sockets."""
