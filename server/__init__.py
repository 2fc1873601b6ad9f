"""The server: one bundle loaded, verified and answered over HTTP."""
