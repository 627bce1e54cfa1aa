"""`guardwire check-platform`: what is missing or odd in a platform's database, found by bounded SELECTs alone."""
