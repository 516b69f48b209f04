-- One database for each service, so that each can be dumped, restored and upgraded by itself.
CREATE DATABASE prefect;
CREATE DATABASE mlflow;
CREATE DATABASE jobs;
