"""`guardwire check-platform`: finds missing and odd things in a platform's database by bounded SELECT statements."""
