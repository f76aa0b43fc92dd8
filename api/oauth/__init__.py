"""OAuth 2 at the edge: clients prove who they are, and grants turn what they show into tokens."""
