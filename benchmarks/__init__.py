"""What is measured, and what is only computed; nothing here is part of the package."""
