"""The HTTP API: routes, what they take and give, who may call them."""
