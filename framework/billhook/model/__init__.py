"""A model through its adapter: branches and their layout, the view in original layer numbers, surgery, loading."""
