// The main job as six tabs, and one for what other code logs. Each is a document and its variables, kept as files so that a test can check them against the schema.
import compare from "./5-compare.graphql?raw";
import compareVariables from "./5-compare.json?raw";
import create from "./1-create.graphql?raw";
import createVariables from "./1-create.json?raw";
import search from "./6-search.graphql?raw";
import searchVariables from "./6-search.json?raw";
import track from "./7-track.graphql?raw";
import trackVariables from "./7-track.json?raw";
import train from "./3-train.graphql?raw";
import trainVariables from "./3-train.json?raw";
import upload from "./2-upload.graphql?raw";
import uploadVariables from "./2-upload.json?raw";
import watch from "./4-watch.graphql?raw";
import watchVariables from "./4-watch.json?raw";

export const TABS = [
  { query: create, variables: createVariables },
  { query: upload, variables: uploadVariables },
  { query: train, variables: trainVariables },
  { query: watch, variables: watchVariables },
  { query: compare, variables: compareVariables },
  { query: search, variables: searchVariables },
  { query: track, variables: trackVariables },
];
