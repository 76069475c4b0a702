"""AWS as a provider of machines."""
