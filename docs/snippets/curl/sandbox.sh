# Read it in, in the project's directory, while `make run` runs in another terminal: . docs/snippets/curl/sandbox.sh
export PATH="$PWD/.venv/bin:$PATH" TANPUHUI_DATA_DIR="${TANPUHUI_DATA_DIR:-$PWD/.data}"
export PLATFORM="${PLATFORM:-http://127.0.0.1:8000}"  # as `make run` prints it
export SOURCE="${SOURCE:-urn:example:rides}"          # your registered name
export READ_IN="${READ_IN:-en}"                       # the language of problems: en or zh-CN
OPERATOR_TOKEN=$(tanpuhui token operator --minutes 1440)
PROVIDER_TOKEN=$(tanpuhui token provider --source "$SOURCE" --minutes 1440)
export OPERATOR_TOKEN PROVIDER_TOKEN
