"""One self-contained page: HTML with its style, script, pictures and numbers inside, under a policy without network."""
