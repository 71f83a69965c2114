"""What is given: banks joined with a manifest by id, supervisors, references, pools."""
