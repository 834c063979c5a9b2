# Nothing but the inherited head: what a recipe's gain is compared with.
_base_ = ['./distill_heatmap.py']

distiller = dict(terms=[])
