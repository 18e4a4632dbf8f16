"""What the house needs from outside: protocols, with their contracts in prose."""
