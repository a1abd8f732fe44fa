"""Systems whose latent state is known at every token: text (`arithmetic_cot`, whose language is in `bookings`, and
`controlled_cot`), and machines without a model (`stack`, `traversal`; `states` is what they share, `strata` makes a
state an activation).
"""
