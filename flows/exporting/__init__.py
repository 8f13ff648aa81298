"""Writes the tables of a dataset in the layouts of others: RecBole, Hugging Face datasets, CSV.

prepared_tables  the users, items and interactions of a dataset, under the dump's own keys
recbole_files    atomic files, split files and settings of RecBole
hub_folder       Parquet files with a card, for `datasets.load_dataset`
csv_files        one CSV file per table
new_folder       an output folder that appears whole or not at all
"""
