"""What the sides share of tenants: how what another tenant must not read is written."""
