"""What this machine has for bertjax, and what to mend: each check is a value."""
