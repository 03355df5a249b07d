"""How the bench stage times contestants fairly."""
