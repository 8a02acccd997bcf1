"""Ball/paddle physics."""
