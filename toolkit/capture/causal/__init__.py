"""Derivation of the one-position step of a causal network from its captured graph.

A network is captured once and walked once. Every tensor that runs along time becomes a `Lane`,
whose newest entry, its *column*, is computed from the columns of its arguments and from cached
ones. One rule per operator family says how, or refuses with the reason. Rules are torch code, so
the step that comes out is traced like any other function.

*Time* is the axis that is walked; a value is *known* when it does not depend on what is sampled;
a *lag* of n is n steps ago.
"""
