"""How good a model is: its errors against labels, how well its spread knows them, and the physics it gives."""
