"""Systems whose latent state is known at every token: `arithmetic_cot`, whose language is in `bookings`."""
