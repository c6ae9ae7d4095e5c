"""What the projections know of users, products and hours: routes beside their SQL."""
