#!/usr/bin/env bash
# Shows what a template would change in a stack, and changes it after a yes.
#
#   infra/deploy.sh STACK TEMPLATE [Parameter=Value …]
#
# BUCKET= an S3 bucket for code and template; needed if the template names files or is large.
# YES=1 asks nobody. Parameters that are not given keep their values.
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
stack=$1 template=$2
shift 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
account=$(aws sts get-caller-identity --query Account --output text)
echo "$stack in ${AWS_REGION:-${AWS_DEFAULT_REGION:-the default region}} of account $account"

upload=()
if [ -n "${BUCKET:-}" ]; then
  upload=(--s3-bucket "$BUCKET" --s3-prefix "$stack")
  aws cloudformation package --template-file "$template" "${upload[@]}" \
    --output-template-file "$work/packaged.json" --use-json >"$work/uploaded"
  template=$work/packaged.json
fi

aws cloudformation deploy --stack-name "$stack" --template-file "$template" "${upload[@]}" \
  --capabilities CAPABILITY_IAM --no-execute-changeset --no-fail-on-empty-changeset \
  ${1:+--parameter-overrides "$@"} >"$work/planned"
change_set=$(sed -n 's/.*--change-set-name \(arn:[^ ]*\).*/\1/p' "$work/planned")
if [ -z "$change_set" ]; then
  cat "$work/planned"
  grep -q 'No changes to deploy' "$work/planned"
  exit
fi

changes() {
  aws cloudformation describe-change-set --change-set-name "$change_set" --output "$1" \
    --query "Changes[].ResourceChange.[Action, Replacement || '-', ResourceType, LogicalResourceId]"
}
changes table
changes text >"$work/changes"
if grep -qE '^(Remove|Modify[[:space:]]+(True|Conditional))' "$work/changes"; then
  echo "This takes away, or may replace:"
  grep -E '^(Remove|Modify[[:space:]]+(True|Conditional))' "$work/changes"
fi

if [ "${YES:-}" != 1 ]; then
  read -r -p "Change it? [y/N] " answer || answer=
  case $answer in
    y | Y | yes) ;;
    *)
      aws cloudformation delete-change-set --change-set-name "$change_set"
      echo "Nothing was changed."
      exit 1
      ;;
  esac
fi

status=$(aws cloudformation describe-stacks --stack-name "$stack" \
  --query 'Stacks[0].StackStatus' --output text)
case $status in
  REVIEW_IN_PROGRESS) awaited=stack-create-complete ;;
  *) awaited=stack-update-complete ;;
esac
aws cloudformation execute-change-set --change-set-name "$change_set"
if ! aws cloudformation wait "$awaited" --stack-name "$stack"; then
  echo "It failed, and the stack goes back to what it was:" >&2
  aws cloudformation describe-stack-events --stack-name "$stack" --output text --max-items 100 \
    --query "StackEvents[?contains(ResourceStatus, 'FAILED')].[LogicalResourceId, ResourceStatusReason]" >&2
  exit 1
fi
aws cloudformation describe-stacks --stack-name "$stack" --output table \
  --query 'Stacks[0].Outputs[].[OutputKey, OutputValue]'
