"""The four roles of a strategy, what each is handed, and recipes made of them."""
