# Read it in, in the project's directory, while `make run` runs in another terminal: . docs/bank-snippets/sandbox.sh
export PATH="$PWD/.venv/bin:$PATH" TANPUHUI_DATA_DIR="${TANPUHUI_DATA_DIR:-$PWD/.data}"
export PLATFORM="${PLATFORM:-http://127.0.0.1:8000}"     # as `make run` prints it
export BANK="${BANK:-https://bank.example/yours}"        # your registered name
export READ_IN="${READ_IN:-en}"                          # the language of problems: en or zh-CN
OPERATOR_TOKEN=$(tanpuhui token operator --minutes 1440)
COLLEAGUE_TOKEN=$(tanpuhui token operator colleague --minutes 1440)
BANK_TOKEN=$(tanpuhui token bank --bank "$BANK" --minutes 1440)
export OPERATOR_TOKEN COLLEAGUE_TOKEN BANK_TOKEN
