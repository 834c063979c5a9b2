# Nothing but the inherited head, on the pair for near objects.
_base_ = ['./distill_near_heatmap.py']

distiller = dict(terms=[])
