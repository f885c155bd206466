"""Layer 2: everything Meta demands or says; knows no database."""
