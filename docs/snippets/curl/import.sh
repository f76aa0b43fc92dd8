# Check the feed against the first rows, ask what would become of the file, then import it.
(umask 077 && printf '%s' "$PROVIDER_TOKEN" > token)
tanpuhui feed lint my-rides.yaml --data my-rides.csv
tanpuhui import my-rides.csv --feed my-rides.yaml --url "$PLATFORM" --token-file token --dry-run
tanpuhui import my-rides.csv --feed my-rides.yaml --url "$PLATFORM" --token-file token \
  --refused refused.csv --outcomes outcomes-may.csv
