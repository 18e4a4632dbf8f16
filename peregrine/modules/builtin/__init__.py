"""The system tasks that need nobody but the house itself."""
