"""What stands between the network and the routes, outermost first."""
