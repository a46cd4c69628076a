"""What every request passes through, whatever its route: plain ASGI layers, in the order in which `app` lists them."""
