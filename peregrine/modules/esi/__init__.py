"""EVE Online: its public facts, its sign-in, and the system tasks that keep both fresh."""
