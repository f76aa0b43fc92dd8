"""Machine clients: who may ask for a token, with which keys, and which tokens are revoked."""
