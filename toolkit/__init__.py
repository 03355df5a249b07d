"""Export trained flows, masked and autoregressive models to the edge, verified and measured."""
