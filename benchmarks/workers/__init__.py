"""What peers that work in processes of their own load there."""
