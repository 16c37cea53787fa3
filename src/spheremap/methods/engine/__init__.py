"""How all methods are compared in one pass over the feature cache; `method.Method` is what one is."""
