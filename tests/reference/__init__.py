"""A second, slow implementation of what the model families must compute, to measure the fast one against.

It shares no line with the product: prompts are written out, pictures go through the library's own PIL processors, models
run with eager attention in full matrices, one sequence at a time, without a cache, and every decoded token costs a whole
forward pass. `model.ReferenceModel` is the way in.
"""
