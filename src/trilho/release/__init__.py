"""How a version gets to its users: the evidence it needs, the approval, the shares of traffic."""
