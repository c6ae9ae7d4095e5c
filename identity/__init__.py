"""Who may ask: settings, keys and their register. The policies that every request passes are `web/policies/`."""
