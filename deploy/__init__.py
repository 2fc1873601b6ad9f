"""How Hotrow is shipped: manifests, units, and what is known of the packages it is shipped with."""
