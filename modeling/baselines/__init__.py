"""The models that VIP5 is compared with."""
