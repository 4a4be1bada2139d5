"""The project's own leaderboard, on data that is embedded: `make leaderboard`. See README.md beside this."""
