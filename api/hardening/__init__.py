"""What stands before the routes: the form of a request, where it comes from, how slow it may be, and safe headers."""
