"""Who may ask for what: keys with scopes, certificates, and files that are read again when they change."""
