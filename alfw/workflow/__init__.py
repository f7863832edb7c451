"""Rounds as FireWorks workflows: building, opening, reconciling, pausing. Nothing else in alfw builds Fireworks."""
