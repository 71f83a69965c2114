"""What features and weak labels are like: nearest neighbours among rows."""
