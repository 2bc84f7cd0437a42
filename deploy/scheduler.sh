#!/usr/bin/env bash
# The minute hand: Cloud Scheduler starts the job. Its starts are at-least-once and may overlap; the claims see to that.
# Usage: PROJECT=… REGION=… SERVICE_ACCOUNT=… deploy/scheduler.sh
set -euo pipefail
: "${PROJECT:?set PROJECT}" "${REGION:?set REGION}" "${SERVICE_ACCOUNT:?set SERVICE_ACCOUNT}"
gcloud scheduler jobs create http daily-recap-every-minute \
  --project "$PROJECT" --location "$REGION" --schedule '* * * * *' --time-zone Etc/UTC \
  --uri "https://run.googleapis.com/v2/projects/$PROJECT/locations/$REGION/jobs/daily-recap:run" \
  --http-method POST --oauth-service-account-email "$SERVICE_ACCOUNT"
# Ledgers expire by themselves after 30 days.
gcloud firestore fields ttls update expire_at --project "$PROJECT" \
  --collection-group recap_deliveries --enable-ttl --async
# What was made of the parts of long days expires after three.
gcloud firestore fields ttls update expire_at --project "$PROJECT" \
  --collection-group parts --enable-ttl --async
