"""Who may ask for what: API keys, the gate that every request passes, and the rates of keys."""
